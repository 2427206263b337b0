"""`./zh bench`: ZapHub's queue and its peers, measured in one run on one machine."""
