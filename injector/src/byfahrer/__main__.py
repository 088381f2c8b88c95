"""`python -m byfahrer`."""

from byfahrer.cli import main

main()
