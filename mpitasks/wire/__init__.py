"""What crosses between ranks: encoding, messages and the transports that carry them."""
