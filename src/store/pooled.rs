//! A connection of the pool while a call uses it. The call can be cancelled at any moment.

use std::time::Duration;

use deadpool_postgres::Object;

/// How long a connection may take to answer after its caller left in the middle of a statement. Meanwhile it keeps its slot in the
/// pool, so that callers with short deadlines do not open more and more connections.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);

/// A connection in use. If it is dropped before the answer arrives, the connection returns to the pool only after it
/// answered. Otherwise the next caller would wait for the statement to end, and on a dead connection until its own deadline.
pub(super) struct Pooled(Option<Object>);

impl Pooled {
    pub(super) fn of(connection: Object) -> Self {
        Self(Some(connection))
    }

    pub(super) fn connection(&self) -> &Object {
        // Only `give_back`, `discard` and `drop` take the connection out, and each of them ends this value.
        self.0
            .as_ref()
            .unwrap_or_else(|| unreachable!("the connection was given back"))
    }

    /// For a transaction. A transaction that is dropped is rolled back before the connection returns to the pool.
    pub(super) fn connection_mut(&mut self) -> &mut Object {
        self.0
            .as_mut()
            .unwrap_or_else(|| unreachable!("the connection was given back"))
    }

    /// Returns the connection to the pool. No statement runs on it.
    pub(super) fn give_back(mut self) {
        drop(self.0.take());
    }

    /// Closes the connection, because it is dead or its server is unusable.
    pub(super) fn discard(mut self) {
        self.0.take().map(Object::take);
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let Some(connection) = self.0.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(return_when_it_answers(connection));
            }
            Err(_) => drop(Object::take(connection)),
        }
    }
}

/// Waits for the answer to an empty query. It arrives after the answer to the statement.
async fn return_when_it_answers(connection: Object) {
    let answer = tokio::time::timeout(ANSWERS_WITHIN, connection.simple_query("")).await;
    if !matches!(answer, Ok(Ok(_))) {
        drop(Object::take(connection));
    }
}
