"""`python -m service` is the command `headrace`."""

from service.cli import main

if __name__ == "__main__":
    main()
