"""`python -m pipeline …` is `warmstart …` with the code that lies in the current folder.

`dvc.yaml` calls stages this way, so that a workspace runs the commit it pinned and not the installed package.
"""

from pipeline.cli import main

main()
