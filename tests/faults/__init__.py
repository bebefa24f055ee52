"""The fault matrix: store kind x fault x operation, over real servers behind a proxy that injects the fault.

    python -m tests.faults                       every cell, then the page docs/faults.md
    python -m tests.faults s3 stall "pull many"  the cells that these words choose

A cell's data follow from its name, so a cell is the same wherever and whenever it runs.
"""
