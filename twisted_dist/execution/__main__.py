"""Entry of the nanny's child; see `twisted_dist.execution.child`.

Kept empty of names: user classes of ``__main__`` must not be found here by accident.
"""

import sys

__import__("twisted_dist.execution.child").execution.child.main(sys.argv[1:])
