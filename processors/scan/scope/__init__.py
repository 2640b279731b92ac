"""What may leave: grants as this scanner knows them, orders to it, pacing, and the gate that every packet passes."""
