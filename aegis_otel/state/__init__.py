"""State that processes share: marks of calls, by which limits are judged, and questions with their answers.

`opening.open_state` gives the state that the setting `AEGIS_STATE` names: SQLite for the processes of one
machine, PostgreSQL for those of many. docs/state.md says what each of them promises.
"""
