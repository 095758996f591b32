#![no_main]

#[macro_use]
mod values;

target!("page_token");
