//! Lists in pages.

/// Requests all pages, each with the token of the page before: `page` gets the token, and returns the next one. Empty: the first, and the last.
pub async fn pages<E>(mut page: impl AsyncFnMut(String) -> Result<String, E>) -> Result<(), E> {
    let mut page_token = page(String::new()).await?;
    while !page_token.is_empty() {
        page_token = page(page_token).await?;
    }
    Ok(())
}
