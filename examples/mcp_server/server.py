"""An MCP server of a warehouse, as somebody else may have written it."""

from mcp.server.mcpserver import MCPServer

stock = {"bolts": 1200, "nuts": 80}
server = MCPServer("warehouse")


@server.tool()
def count_stock(item: str) -> str:
    """How many of an item there are."""
    return f"{stock[item]} {item}"


@server.tool()
def write_off(item: str) -> str:
    """Remove an item from the books for good."""
    del stock[item]
    return f"{item} written off"


if __name__ == "__main__":
    server.run()
