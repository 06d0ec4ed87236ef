# Where no registry can be reached: PostgreSQL and Redis of Debian in place of the official images, started as those are.
# BASE has the packages postgresql and redis-server.
ARG BASE
FROM ${BASE} AS postgres
COPY postgres.sh /usr/local/bin/
ENTRYPOINT ["/usr/local/bin/postgres.sh"]

FROM ${BASE} AS redis
