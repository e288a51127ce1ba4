"""Keep an audit over time: seal in the background, remove what is old, copy to object storage."""
