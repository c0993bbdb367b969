//! Where values come from.

/// Finds the value of a key: in a database, say, or by a call to another service.
///
/// Any function `Fn(K) -> impl Future<Output = Result<Option<V>, E>>` is one. A loader of its own type can load many keys with
/// one call, too.
pub trait Load<K, V>: Send + Sync + 'static {
    /// Why a load fails.
    type Error: Send + Sync + 'static;

    /// The value of a key, or `None` if it has none.
    fn load(&self, key: K) -> impl Future<Output = Result<Option<V>, Self::Error>> + Send;

    /// The values of many keys, in any order. A key that is left out has none.
    ///
    /// One key after the other, unless an implementation knows better.
    fn load_many(&self, keys: Vec<K>) -> impl Future<Output = Result<Vec<(K, V)>, Self::Error>> + Send
    where
        K: Clone + Send + 'static,
        V: Send + 'static,
    {
        async move {
            let mut pairs = Vec::with_capacity(keys.len());
            for key in keys {
                if let Some(value) = self.load(key.clone()).await? {
                    pairs.push((key, value));
                }
            }
            Ok(pairs)
        }
    }
}

impl<K, V, F, Fut, E> Load<K, V> for F
where
    F: Fn(K) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Option<V>, E>> + Send,
    E: Send + Sync + 'static,
{
    type Error = E;

    fn load(&self, key: K) -> impl Future<Output = Result<Option<V>, E>> + Send {
        self(key)
    }
}
