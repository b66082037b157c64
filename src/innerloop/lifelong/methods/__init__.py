"""The methods for streams, each in one file; `innerloop.lifelong` names them."""
