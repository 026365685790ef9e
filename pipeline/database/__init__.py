"""What our databases share: the way to them, group commit, prepared statements, migrations. Nothing here knows what stands in one."""
