"""The only package that opens sockets: bytes move in asyncio protocol callbacks, h11 reads and writes the heads."""
