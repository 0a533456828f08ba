"""Entry of Hearth's Python runtime client.

It is only a door: a script is compiled anew at every start, a module is read
from its byte code, so that everything else is in the package beside it.
"""
import sys

from hearth_runtime import main

# The script's own folder came first in the path only for this import.
del sys.path[0]
main.run(sys.argv[1:])
