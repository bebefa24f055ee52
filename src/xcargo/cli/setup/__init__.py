"""What ``xcargo init`` writes into a project: pure edits, and which file each kind of project keeps what in."""
