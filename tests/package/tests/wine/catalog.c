/* Reads catalogs by the system's own crypt32 and wintrust, and says what they say: first the certificate's file, which
 * is trusted as a root, then catalogs, a dash, and files. One line for each finding. */
#include <stdio.h>
#include <windows.h>
#include <wincrypt.h>
#include <mscat.h>
#include <wintrust.h>
#include <softpub.h>

static void hex(const BYTE *bytes, DWORD count)
{
    while (count--)
        printf("%02x", *bytes++);
}

static BYTE *contents(const WCHAR *path, DWORD *size)
{
    HANDLE file = CreateFileW(path, GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING, 0, NULL);
    BYTE *bytes = malloc(*size = GetFileSize(file, NULL));

    if (!ReadFile(file, bytes, *size, size, NULL))
        exit(2);
    CloseHandle(file);
    return bytes;
}

/* A structure of crypt32's or wintrust's; null if it does not understand the bytes. */
static void *decode(const char *kind, const BYTE *bytes, DWORD size)
{
    void *decoded = NULL;
    DWORD length;

    if (CryptDecodeObject(X509_ASN_ENCODING | PKCS_7_ASN_ENCODING, kind, bytes, size, 0, NULL, &length)) {
        decoded = malloc(length);
        CryptDecodeObject(X509_ASN_ENCODING | PKCS_7_ASN_ENCODING, kind, bytes, size, 0, decoded, &length);
    }
    return decoded;
}

static void name_value(const char *where, const CRYPT_DATA_BLOB *blob)
{
    CAT_NAMEVALUE *pair = decode(CAT_NAMEVALUE_OBJID, blob->pbData, blob->cbData);

    if (pair)
        printf("%s %ls=%ls flags %lx\n", where, pair->pwszTag, (WCHAR *)pair->Value.pbData, pair->fdwFlags);
}

static void attribute(const CRYPT_ATTRIBUTE *attribute)
{
    const CRYPT_DATA_BLOB *value = attribute->rgValue;

    if (!strcmp(attribute->pszObjId, CAT_NAMEVALUE_OBJID)) {
        name_value("  name", value);
    } else if (!strcmp(attribute->pszObjId, SPC_INDIRECT_DATA_OBJID)) {
        SPC_INDIRECT_DATA_CONTENT *data = decode(SPC_INDIRECT_DATA_OBJID, value->pbData, value->cbData);

        if (!data)
            return;
        printf("  digest %s %s ", data->Data.pszObjId, data->DigestAlgorithm.pszObjId);
        hex(data->Digest.pbData, data->Digest.cbData);
        printf("\n");
    } else {
        printf("  other %s ", attribute->pszObjId);
        hex(value->pbData, value->cbData);
        printf("\n");
    }
}

static void list(const WCHAR *path)
{
    HCRYPTMSG message = CryptMsgOpenToDecode(X509_ASN_ENCODING | PKCS_7_ASN_ENCODING, 0, 0, 0, NULL, NULL);
    DWORD size, i, j;
    BYTE *bytes = contents(path, &size);
    CTL_INFO *ctl;

    if (!CryptMsgUpdate(message, bytes, size, TRUE)
        || !CryptMsgGetParam(message, CMSG_CONTENT_PARAM, 0, NULL, &size)
        || !CryptMsgGetParam(message, CMSG_CONTENT_PARAM, 0, bytes, &size)
        || !(ctl = decode(PKCS_CTL, bytes, size))) {
        printf("not understood: error %lx\n", GetLastError());
        return;
    }
    printf("usage %s algorithm %s\n", ctl->SubjectUsage.rgpszUsageIdentifier[0], ctl->SubjectAlgorithm.pszObjId);
    for (i = 0; i < ctl->cCTLEntry; i++) {
        printf("entry ");
        hex(ctl->rgCTLEntry[i].SubjectIdentifier.pbData, ctl->rgCTLEntry[i].SubjectIdentifier.cbData);
        printf("\n");
        for (j = 0; j < ctl->rgCTLEntry[i].cAttribute; j++)
            attribute(&ctl->rgCTLEntry[i].rgAttribute[j]);
    }
    for (i = 0; i < ctl->cExtension; i++)
        name_value("extension", &ctl->rgExtension[i].Value);
    CryptMsgClose(message);
}

/* mscat's own reading. Wine's knows no MEMBERINFO2 and says so. */
static void members(WCHAR *path)
{
    HANDLE catalog = CryptCATOpen(path, CRYPTCAT_OPEN_EXISTING, 0, 0, 0);
    CRYPTCATMEMBER *member = NULL;

    printf("CryptCATOpen %d\n", catalog && catalog != INVALID_HANDLE_VALUE);
    SetLastError(0);
    while ((member = CryptCATEnumerateMember(catalog, member)))
        printf("member %ls\n", member->pwszReferenceTag);
    printf("members end: error %lx\n", GetLastError());
    CryptCATClose(catalog);
}

static LONG verify(WINTRUST_DATA data)
{
    GUID action = WINTRUST_ACTION_GENERIC_VERIFY_V2;
    LONG result;

    data.cbStruct = sizeof(data);
    data.dwUIChoice = WTD_UI_NONE;
    data.dwStateAction = WTD_STATEACTION_VERIFY;
    result = WinVerifyTrust(INVALID_HANDLE_VALUE, &action, &data);
    data.dwStateAction = WTD_STATEACTION_CLOSE;
    WinVerifyTrust(INVALID_HANDLE_VALUE, &action, &data);
    return result;
}

static LONG verify_catalog(const WCHAR *path, const WCHAR *member)
{
    WINTRUST_CATALOG_INFO catalog = {.cbStruct = sizeof(catalog), .pcwszCatalogFilePath = path, .pcwszMemberTag = L"",
                                     .pcwszMemberFilePath = member};

    return verify((WINTRUST_DATA){.dwUnionChoice = WTD_CHOICE_CATALOG, .pCatalog = &catalog});
}

/* By the signature in the file itself. */
static LONG verify_file(const WCHAR *path)
{
    WINTRUST_FILE_INFO file = {.cbStruct = sizeof(file), .pcwszFilePath = path};

    return verify((WINTRUST_DATA){.dwUnionChoice = WTD_CHOICE_FILE, .pFile = &file});
}

/* Not in MinGW's import library, and not in older Wines. */
static BOOL WINAPI (*acquire)(HCATADMIN *, const GUID *, PCWSTR, PCCERT_STRONG_SIGN_PARA, DWORD);
static BOOL WINAPI (*calculate)(HCATADMIN, HANDLE, DWORD *, BYTE *, DWORD);

/* By SHA-1, and by SHA-256 where the system can. */
static void digests(HCATADMIN admin, const WCHAR *path)
{
    HANDLE file = CreateFileW(path, GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING, 0, NULL);
    BYTE bytes[32];
    DWORD size = sizeof(bytes);

    printf("file %lx ", verify_file(path));
    if (CryptCATAdminCalcHashFromFileHandle(file, &size, bytes, 0))
        hex(bytes, size);
    size = sizeof(bytes);
    SetFilePointer(file, 0, NULL, FILE_BEGIN);
    if (admin && calculate(admin, file, &size, bytes, 0)) {
        printf(" ");
        hex(bytes, size);
    }
    printf("\n");
    CloseHandle(file);
}

int wmain(int count, WCHAR **arguments)
{
    HCERTSTORE roots = CertOpenSystemStoreW(0, L"ROOT");
    HCATADMIN admin;
    HMODULE wintrust;
    DWORD size;
    BYTE *certificate = contents(arguments[1], &size);
    int i;

    CertAddEncodedCertificateToStore(roots, X509_ASN_ENCODING, certificate, size, CERT_STORE_ADD_REPLACE_EXISTING, NULL);
    CertCloseStore(roots, 0);
    for (i = 2; i < count && wcscmp(arguments[i], L"-"); i++) {
        printf("catalog %d\n", i - 2);
        list(arguments[i]);
        members(arguments[i]);
        printf("WinVerifyTrust %lx\n", verify_catalog(arguments[i], arguments[count - 1]));
    }
    wintrust = GetModuleHandleW(L"wintrust");
    acquire = (void *)GetProcAddress(wintrust, "CryptCATAdminAcquireContext2");
    calculate = (void *)GetProcAddress(wintrust, "CryptCATAdminCalcHashFromFileHandle2");
    if (!acquire || !calculate || !acquire(&admin, NULL, L"SHA256", NULL, 0))
        admin = NULL;
    while (++i < count)
        digests(admin, arguments[i]);
    return 0;
}
