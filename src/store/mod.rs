//! Durable bytes.

/// When a write is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// After it is synced to disk.
    #[default]
    Sync,
    /// After it is handed to the kernel; synced every 100 ms.
    Relaxed,
}
