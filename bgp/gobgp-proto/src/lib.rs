//! GoBGP gRPC types.
