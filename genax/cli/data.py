"""genax data."""
def add_parser(verbs):
    verbs.add_parser("data")
