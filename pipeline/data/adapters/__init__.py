r"""Public datasets, brought into the canonical layout: a folder with `dataset.yaml` and Parquet.

    warmstart data prepare ml-latest-small --from DIR --out prepared/ml
    warmstart data prepare ml-1m --out prepared/ml-1m           # fetched from its official address
    warmstart data prepare amazon --from DIR --out prepared/amazon \
        --sources sports2014,games2018 --targets beauty2014,scientific2018

What users may do with the data is theirs to read: GroupLens allows research, not commerce.
"""
