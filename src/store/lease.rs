//! A connection of the pool while a call uses it, which may leave at any moment.

use std::time::Duration;

use deadpool_postgres::Object;

/// How long a connection whose caller left in the midst of a statement may take until it answers. Its place in the pool stays
/// taken for so long: callers with short deadlines shall not make more and more connections.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);

/// A connection at work. Dropped before its answer came, it goes back to the pool only if it still answers: whoever got it
/// sooner would wait behind the statement, on a dead way until its own deadline.
pub(super) struct Lease(Option<Object>);

impl Lease {
    pub(super) fn of(connection: Object) -> Self {
        Self(Some(connection))
    }

    pub(super) fn connection(&self) -> &Object {
        // Only the two below, which consume this, and drop empty it.
        self.0
            .as_ref()
            .unwrap_or_else(|| unreachable!("the connection was given back"))
    }

    /// No statement is under way on it any more.
    pub(super) fn give_back(mut self) {
        drop(self.0.take());
    }

    /// It is dead, or of a server that is of no use.
    pub(super) fn discard(mut self) {
        self.0.take().map(Object::take);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(connection) = self.0.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(back_if_it_answers(connection));
            }
            Err(_) => drop(Object::take(connection)),
        }
    }
}

/// Answers come in the order of the statements.
async fn back_if_it_answers(connection: Object) {
    let answer = tokio::time::timeout(ANSWERS_WITHIN, connection.simple_query("")).await;
    if !matches!(answer, Ok(Ok(_))) {
        drop(Object::take(connection));
    }
}
