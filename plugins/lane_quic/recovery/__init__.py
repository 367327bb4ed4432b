"""What became of packets: which are lost, how fast the path delivers, when the next ones leave."""
