"""What a view shows of a place, and which space is known to be empty."""
