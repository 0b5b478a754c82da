"""The lab: trains, compares and reports, through the same public calls as everyone else.

Nothing in the method imports it. Its packages come with ``pip install 'infobatch[lab]'``.
"""
