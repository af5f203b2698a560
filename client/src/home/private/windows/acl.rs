//! Access lists through the C interface of Windows: the list for an owner alone, and what a file's own list says.
//!
//! This is the only place of the program that calls Windows for files. It takes and gives files, paths that end in a zero
//! and texts; what Windows allocates is freed by the value that holds it.

#![expect(
    unsafe_code,
    reason = "access lists are had through the C interface alone, and no well-kept crate wraps it"
)]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::ptr::{null, null_mut};

use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_SUCCESS, GENERIC_ALL, GENERIC_READ, GENERIC_WRITE, HANDLE,
    INVALID_HANDLE_VALUE, LocalFree,
};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo, SDDL_REVISION_1,
    SE_FILE_OBJECT, SetSecurityInfo,
};
use windows_sys::Win32::Security::{
    ACCESS_ALLOWED_ACE, ACE_HEADER, ACL, DACL_SECURITY_INFORMATION, EqualSid, GetAce, GetSecurityDescriptorControl,
    GetTokenInformation, INHERIT_ONLY_ACE, IsWellKnownSid, OWNER_SECURITY_INFORMATION,
    PROTECTED_DACL_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, PSID, SE_DACL_PROTECTED, SECURITY_ATTRIBUTES,
    TOKEN_QUERY, TOKEN_USER, TokenUser, UNPROTECTED_DACL_SECURITY_INFORMATION, WELL_KNOWN_SID_TYPE,
    WinBuiltinAdministratorsSid, WinCreatorOwnerRightsSid, WinLocalSystemSid,
};
use windows_sys::Win32::Storage::FileSystem::{
    CREATE_NEW, CreateDirectoryW, CreateFileW, DELETE, FILE_APPEND_DATA, FILE_ATTRIBUTE_NORMAL,
    FILE_FLAG_OPEN_REPARSE_POINT, FILE_READ_DATA, FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE,
    FILE_WRITE_DATA, OPEN_ALWAYS, WRITE_DAC, WRITE_OWNER,
};
use windows_sys::Win32::System::SystemServices::{ACCESS_ALLOWED_ACE_TYPE, ACCESS_DENIED_ACE_TYPE};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

/// The flag for opening a link itself and not what it points at.
pub(super) const NO_FOLLOW: u32 = FILE_FLAG_OPEN_REPARSE_POINT;

/// Rights that let somebody at what a file holds, or let him take such a right.
const TELLING: u32 = FILE_READ_DATA
    | FILE_WRITE_DATA
    | FILE_APPEND_DATA
    | DELETE
    | WRITE_DAC
    | WRITE_OWNER
    | GENERIC_READ
    | GENERIC_WRITE
    | GENERIC_ALL;

/// Whether a file has to be new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    New,
    NewOrOld,
}

/// Who owns a new file or folder, and who is let at it.
#[derive(Debug)]
pub(super) struct Descriptor(Allocated);

impl Descriptor {
    /// Ours, for us alone, whatever the folder around it would pass on. A folder passes it on.
    pub(super) fn for_owner() -> io::Result<Self> {
        Self::with("")
    }

    /// The same, with further entries in the security descriptor definition language.
    pub(super) fn with(more: &str) -> io::Result<Self> {
        let me = Me::find()?.text()?;
        let text = format!("O:{me}D:P(A;OICI;FA;;;{me}){more}\0");
        let text: Vec<u16> = text.encode_utf16().collect();
        let mut descriptor: PSECURITY_DESCRIPTOR = null_mut();
        // SAFETY: the text ends in a zero; what is written to `descriptor` is allocated, and freed by its owner.
        let made = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                null_mut(),
            )
        };
        let descriptor = Allocated(descriptor);
        done(made)?;
        Ok(Self(descriptor))
    }

    fn attributes(&self) -> io::Result<SECURITY_ATTRIBUTES> {
        Ok(SECURITY_ATTRIBUTES {
            nLength: size::<SECURITY_ATTRIBUTES>()?,
            lpSecurityDescriptor: self.0.0,
            bInheritHandle: 0,
        })
    }
}

/// Makes a folder. The path ends in a zero.
pub(super) fn create_folder(path: &[u16], descriptor: &Descriptor) -> io::Result<()> {
    let attributes = descriptor.attributes()?;
    // SAFETY: `wide` ended the path in a zero; the attributes and what they point at live until the call is over.
    done(unsafe { CreateDirectoryW(terminated(path)?, &raw const attributes) })
}

/// Makes a file, or opens the one that is there, for reading and writing; never through a link.
pub(super) fn create_file(path: &[u16], descriptor: &Descriptor, disposition: Disposition) -> io::Result<File> {
    let attributes = descriptor.attributes()?;
    let rights = match disposition {
        // So that the list can be changed to that of a file which this one replaces.
        Disposition::New => GENERIC_READ | GENERIC_WRITE | WRITE_DAC,
        Disposition::NewOrOld => GENERIC_READ | GENERIC_WRITE,
    };
    // SAFETY: the path ends in a zero; the attributes and what they point at live until the call is over.
    let handle = unsafe {
        CreateFileW(
            terminated(path)?,
            rights,
            FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
            &raw const attributes,
            match disposition {
                Disposition::New => CREATE_NEW,
                Disposition::NewOrOld => OPEN_ALWAYS,
            },
            FILE_ATTRIBUTE_NORMAL | FILE_FLAG_OPEN_REPARSE_POINT,
            null_mut(),
        )
    };
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle is open and nobody else's.
    Ok(unsafe { File::from_raw_handle(handle) })
}

/// Whether another program has the file open in a way that stops us.
pub(super) fn is_in_use(error: &io::Error) -> bool {
    let code = error.raw_os_error().and_then(|code| u32::try_from(code).ok());
    matches!(code, Some(ERROR_ACCESS_DENIED | ERROR_SHARING_VIOLATION))
}

/// Who is let at this file and should not be, if anybody.
pub(super) fn exposure(file: &File) -> io::Result<Option<String>> {
    let me = Me::find()?;
    let access = Access::of(file)?;
    if !me.may_own(access.owner) {
        return Ok(Some("belongs to somebody else".to_owned()));
    }
    if access.list.is_null() {
        return Ok(Some("has no access list, which lets everybody at it".to_owned()));
    }
    // SAFETY: the list is valid while `access` lives.
    let count = unsafe { (*access.list).AceCount };
    for index in 0..u32::from(count) {
        let mut entry: *mut c_void = null_mut();
        // SAFETY: the list is valid and has such an entry.
        done(unsafe { GetAce(access.list, index, &raw mut entry) })?;
        // SAFETY: every entry begins with a header.
        let header = unsafe { *entry.cast::<ACE_HEADER>() };
        let kind = u32::from(header.AceType);
        if u32::from(header.AceFlags) & INHERIT_ONLY_ACE != 0 || kind == ACCESS_DENIED_ACE_TYPE {
            continue;
        }
        if kind != ACCESS_ALLOWED_ACE_TYPE {
            return Ok(Some(format!(
                "has an access list with an entry of kind {kind}, which is not understood"
            )));
        }
        let entry = entry.cast::<ACCESS_ALLOWED_ACE>();
        // SAFETY: an entry of this kind has a mask, and then the identifier itself, which lies in the list.
        let (rights, who) = unsafe { ((*entry).Mask, (&raw mut (*entry).SidStart).cast::<c_void>()) };
        if rights & TELLING != 0 && !me.trusts(who) {
            return Ok(Some(format!("has an access list that lets {} at it", text_of(who)?)));
        }
    }
    Ok(None)
}

/// Whether this file belongs to us.
pub(super) fn is_ours(file: &File) -> io::Result<bool> {
    Ok(Me::find()?.may_own(Access::of(file)?.owner))
}

/// Gives `new` the access list of `old`, with what it inherits.
pub(super) fn copy(old: &File, new: &File) -> io::Result<()> {
    let access = Access::of(old)?;
    let (mut control, mut revision) = (0, 0);
    // SAFETY: the descriptor is valid while `access` lives.
    done(unsafe { GetSecurityDescriptorControl(access.descriptor.0, &raw mut control, &raw mut revision) })?;
    let inherits = if control & SE_DACL_PROTECTED == 0 {
        UNPROTECTED_DACL_SECURITY_INFORMATION
    } else {
        PROTECTED_DACL_SECURITY_INFORMATION
    };
    // SAFETY: the handle is open, and the list is valid while `access` lives.
    let code = unsafe {
        SetSecurityInfo(
            new.as_raw_handle(),
            SE_FILE_OBJECT,
            DACL_SECURITY_INFORMATION | inherits,
            null_mut(),
            null_mut(),
            access.list,
            null(),
        )
    };
    succeeded(code)
}

/// Who owns a file, and who is let at it. Both lie in the descriptor.
#[derive(Debug)]
struct Access {
    owner: PSID,
    list: *mut ACL,
    descriptor: Allocated,
}

impl Access {
    fn of(file: &File) -> io::Result<Self> {
        let (mut owner, mut list, mut descriptor): (PSID, *mut ACL, PSECURITY_DESCRIPTOR) =
            (null_mut(), null_mut(), null_mut());
        // SAFETY: the handle is open; what is written to `descriptor` is allocated, and freed by its owner.
        let code = unsafe {
            GetSecurityInfo(
                file.as_raw_handle(),
                SE_FILE_OBJECT,
                OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION,
                &raw mut owner,
                null_mut(),
                &raw mut list,
                null_mut(),
                &raw mut descriptor,
            )
        };
        let descriptor = Allocated(descriptor);
        succeeded(code)?;
        Ok(Self {
            owner,
            list,
            descriptor,
        })
    }
}

/// The person whose process this is.
#[derive(Debug)]
struct Me {
    /// A `TOKEN_USER` and, after it, the identifier that it points at.
    buffer: Vec<u64>,
}

impl Me {
    fn find() -> io::Result<Self> {
        let mut token: HANDLE = null_mut();
        // SAFETY: the process is our own, and a token is written where there is room for one.
        done(unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) })?;
        // SAFETY: the handle is open and nobody else's.
        let _closed = unsafe { OwnedHandle::from_raw_handle(token) };
        // An identifier has at most 68 bytes.
        let mut buffer = vec![0_u64; 32];
        let bytes = u32::try_from(size_of_val(buffer.as_slice())).map_err(io::Error::other)?;
        let mut length = 0;
        // SAFETY: the buffer has as many bytes as is said, and is aligned for what is written.
        done(unsafe { GetTokenInformation(token, TokenUser, buffer.as_mut_ptr().cast(), bytes, &raw mut length) })?;
        Ok(Self { buffer })
    }

    fn sid(&self) -> PSID {
        // SAFETY: the buffer begins with a `TOKEN_USER`, which is plain data, and is aligned for it.
        unsafe { (*self.buffer.as_ptr().cast::<TOKEN_USER>()).User.Sid }
    }

    fn text(&self) -> io::Result<String> {
        text_of(self.sid())
    }

    /// What we made with raised rights belongs to the administrators.
    fn may_own(&self, owner: PSID) -> bool {
        self.trusts(owner)
    }

    /// Us, and those whom no access list keeps out.
    fn trusts(&self, who: PSID) -> bool {
        let known = |kind: WELL_KNOWN_SID_TYPE| {
            // SAFETY: the identifier is valid: it lies in a descriptor or list of Windows' own making.
            unsafe { IsWellKnownSid(who, kind) != 0 }
        };
        // SAFETY: both identifiers are valid.
        let us = !who.is_null() && unsafe { EqualSid(who, self.sid()) != 0 };
        us || (!who.is_null()
            && [WinLocalSystemSid, WinBuiltinAdministratorsSid, WinCreatorOwnerRightsSid]
                .into_iter()
                .any(known))
    }
}

/// `S-1-…`.
fn text_of(who: PSID) -> io::Result<String> {
    let mut text: *mut u16 = null_mut();
    // SAFETY: the identifier is valid; what is written to `text` is allocated, and freed by its owner.
    let made = unsafe { ConvertSidToStringSidW(who, &raw mut text) };
    let owner = Allocated(text.cast());
    done(made)?;
    let text = owner.0.cast::<u16>();
    // SAFETY: the text ends in a zero, and is not read beyond it.
    let units = (0..).map(|at| unsafe { *text.add(at) }).take_while(|unit| *unit != 0);
    String::from_utf16(&units.collect::<Vec<u16>>()).map_err(io::Error::other)
}

/// What Windows allocated with `LocalAlloc`.
#[derive(Debug)]
struct Allocated(*mut c_void);

impl Drop for Allocated {
    fn drop(&mut self) {
        // SAFETY: nobody else frees it, and to free nothing is no fault.
        unsafe { LocalFree(self.0) };
    }
}

fn terminated(path: &[u16]) -> io::Result<*const u16> {
    match path.last() {
        Some(0) => Ok(path.as_ptr()),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn done(outcome: i32) -> io::Result<()> {
    if outcome == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn succeeded(code: u32) -> io::Result<()> {
    if code == ERROR_SUCCESS {
        return Ok(());
    }
    Err(i32::try_from(code).map_or_else(io::Error::other, io::Error::from_raw_os_error))
}

fn size<T>() -> io::Result<u32> {
    u32::try_from(size_of::<T>()).map_err(io::Error::other)
}
