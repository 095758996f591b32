/// A target whose inputs are DER values.
macro_rules! target {
    ($name:literal) => {
        #[path = "../bodies/mod.rs"]
        mod bodies;
        mod mutator;

        libfuzzer_sys::fuzz_target!(|input: &[u8]| bodies::run($name, input));

        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            // Now and then the bytes are nothing but bytes.
            let mutated = (seed % 16 != 0).then(|| {
                mutator::mutate(&data[..size], max_size, seed, |content| {
                    let size = content.len();
                    let max = size + 64;
                    content.resize(max, 0);
                    let size = libfuzzer_sys::fuzzer_mutate(content, size, max);
                    content.truncate(size);
                })
            });
            match mutated.flatten() {
                Some(output) => {
                    data[..output.len()].copy_from_slice(&output);
                    output.len()
                }
                None => libfuzzer_sys::fuzzer_mutate(data, size, max_size),
            }
        });

        libfuzzer_sys::fuzz_crossover!(|one: &[u8], other: &[u8], out: &mut [u8], seed: u32| {
            let crossed = mutator::cross(one, other, out.len(), seed);
            let crossed = crossed.unwrap_or_default();
            out[..crossed.len()].copy_from_slice(&crossed);
            crossed.len()
        });
    };
}
