"""An office assistant that was there before any policy: nothing of aegis-otel is in this file."""

from agents import Agent, Runner, function_tool
from offline import scripted_model

FILES = {"minutes.md": "The budget is agreed.", "budget.xlsx": "..."}


@function_tool
def read_file(name: str) -> str:
    """Read a file of the team's folder."""
    return FILES[name]


@function_tool
def delete_file(name: str) -> str:
    """Delete a file of the team's folder."""
    del FILES[name]
    return f"{name} is gone."


assistant = Agent(
    name="Assistant",
    instructions="You keep the team's folder in order.",
    tools=[read_file, delete_file],
    model=scripted_model(),  # leave this out to use a real one
)


def main() -> None:
    for question in ("What do the minutes say?", "We have too many files. Make room."):
        print(f"> {question}")
        print(f"  {Runner.run_sync(assistant, question).final_output}")
    print(f"Files in the folder: {', '.join(FILES)}")


if __name__ == "__main__":
    main()
