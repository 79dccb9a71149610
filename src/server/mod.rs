//! Kafka at the socket.

pub mod fetch_session;
