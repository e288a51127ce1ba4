"""Some words of the English BIP-39 list, to make seed phrases of."""

from __future__ import annotations

WORDS = """
abstract accuse actor again allow announce arch arm attract barrel blood box brush candy canyon
cave concert connect crouch dance delay diagram dolphin dry either enhance episode expect
faculty female festival focus frequent fringe frog future goose gospel grape hand height hen
hour humble law lawsuit legend leisure lesson lizard lobster mandate minor monitor neglect
number ocean olympic original pact paper party payment peasant prepare public puppy purpose
raccoon remember remove require resource rib rifle rocket rose salad scheme seed service
shuffle solve special stamp stool tank toilet treat uncover undo unveil usual vehicle wage wait
""".split()
