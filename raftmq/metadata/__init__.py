"""The state of the cluster, pure: decisions give events, and replaying committed events alone changes the image."""
