//! Whether a program needs no libraries: only such a one runs in an image that holds none.

/// Whether an ELF binary names no interpreter, so that the kernel alone can start it.
pub fn is_static(elf: &[u8]) -> bool {
    const PT_INTERP: [u8; 4] = 3_u32.to_le_bytes();
    let field = |at: usize| elf.get(at..at + 2).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]])));
    // 64-bit little-endian, as every CPU this runs on: headers start at e_phoff, their count is e_phnum.
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return false;
    }
    let (Some(start), Some(size), Some(count)) = (field(32), field(54), field(56)) else {
        return false;
    };
    (0..count).all(|i| elf.get(start + i * size..start + i * size + 4).is_some_and(|kind| kind != PT_INTERP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_binary_is_not_taken_for_a_static_one() {
        // The test itself is linked dynamically.
        let ourselves = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(!is_static(&ourselves));
        assert!(!is_static(b"#!/bin/sh\n"));
        assert!(!is_static(&ourselves[..60]), "a torn file is no program");
    }

    #[test]
    fn an_elf_file_without_an_interpreter_is_static() {
        let mut elf = vec![0; 64 + 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (elf[32], elf[54], elf[56]) = (64, 56, 1);
        elf[64] = 1;
        assert!(is_static(&elf));
        elf[64] = 3;
        assert!(!is_static(&elf));
    }
}
