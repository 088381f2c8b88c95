"""What nodes of a Swarm share: what managers know of services, and the key that all of them sign with."""
