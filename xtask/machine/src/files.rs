//! Files: put in place at once, found below a folder, copied with it.

use std::fs::{self, Permissions};
use std::io::{Result, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Puts a file in place, whole or not at all: a run may be ended at any moment. Its folder is made where it is missing.
///
/// # Errors
/// It can't be written.
pub fn replace(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    // As any new file: everybody may read it whom the mask lets.
    replace_for(0o666, path, content)
}

/// The same for a file that its owner alone may read, from its first byte on.
///
/// # Errors
/// It can't be written.
pub fn replace_private(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    replace_for(0o600, path, content)
}

fn replace_for(mode: u32, path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut beside = tempfile::Builder::new();
    let mut file = beside.permissions(Permissions::from_mode(mode)).tempfile_in(folder)?;
    file.write_all(content.as_ref())?;
    file.persist(path)?;
    Ok(())
}

/// The files at or below `path`, sorted; none where there is nothing. A link to a folder is one.
///
/// # Errors
/// A folder can't be listed.
pub fn files_below(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(if path.exists() { vec![path.to_owned()] } else { vec![] });
    }
    let mut entries: Vec<PathBuf> =
        fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    // The order of a folder is the file system's affair.
    entries.sort();
    let mut files = vec![];
    for entry in entries {
        files.extend(files_below(&entry)?);
    }
    Ok(files)
}

/// Copies the files below a folder.
///
/// # Errors
/// Something can't be read or written.
pub fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    for file in files_below(from)? {
        let copy = to.join(file.strip_prefix(from).unwrap_or(&file));
        fs::create_dir_all(copy.parent().unwrap_or(to))?;
        fs::copy(&file, copy)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_at_once_and_read_by_whom_it_is_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/kubeconfig");
        let mode = || path.metadata().unwrap().permissions().mode() & 0o777;
        replace(&path, "everybody").unwrap();
        assert_ne!(mode(), 0o600);
        replace_private(&path, "owner").unwrap();
        assert_eq!((mode(), fs::read_to_string(&path).unwrap().as_str()), (0o600, "owner"));
        assert_eq!(files_below(dir.path()).unwrap(), [path]);
    }

    #[test]
    fn what_is_below_a_folder_is_found_in_the_same_order_and_copied() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b/c", "a", "b/a"] {
            replace(&dir.path().join("from").join(name), name).unwrap();
        }
        let to = dir.path().join("to");
        copy_folder(&dir.path().join("from"), &to).unwrap();
        assert_eq!(files_below(&to).unwrap(), ["a", "b/a", "b/c"].map(|name| to.join(name)));
        assert_eq!(files_below(&dir.path().join("nothing")).unwrap(), [""; 0].map(PathBuf::from));
    }
}
