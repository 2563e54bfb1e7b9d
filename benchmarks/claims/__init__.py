"""`python -m benchmarks.claims`: are the paper's claims true of these systems, here?"""
