/** Errors that concern no handle, session or parameter. @see TPM 2.0 Library, Part 2, clause 6.6.3 (RC_VER1) */
const FORMAT_ZERO: Readonly<Record<number, string>> = {
  256: 'TPM_RC_INITIALIZE',
  257: 'TPM_RC_FAILURE',
  259: 'TPM_RC_SEQUENCE',
  267: 'TPM_RC_PRIVATE',
  281: 'TPM_RC_HMAC',
  288: 'TPM_RC_DISABLED',
  289: 'TPM_RC_EXCLUSIVE',
  292: 'TPM_RC_AUTH_TYPE',
  293: 'TPM_RC_AUTH_MISSING',
  294: 'TPM_RC_POLICY',
  295: 'TPM_RC_PCR',
  296: 'TPM_RC_PCR_CHANGED',
  301: 'TPM_RC_UPGRADE',
  302: 'TPM_RC_TOO_MANY_CONTEXTS',
  303: 'TPM_RC_AUTH_UNAVAILABLE',
  304: 'TPM_RC_REBOOT',
  305: 'TPM_RC_UNBALANCED',
  322: 'TPM_RC_COMMAND_SIZE',
  323: 'TPM_RC_COMMAND_CODE',
  324: 'TPM_RC_AUTHSIZE',
  325: 'TPM_RC_AUTH_CONTEXT',
  326: 'TPM_RC_NV_RANGE',
  327: 'TPM_RC_NV_SIZE',
  328: 'TPM_RC_NV_LOCKED',
  329: 'TPM_RC_NV_AUTHORIZATION',
  330: 'TPM_RC_NV_UNINITIALIZED',
  331: 'TPM_RC_NV_SPACE',
  332: 'TPM_RC_NV_DEFINED',
  336: 'TPM_RC_BAD_CONTEXT',
  337: 'TPM_RC_CPHASH',
  338: 'TPM_RC_PARENT',
  339: 'TPM_RC_NEEDS_TEST',
  340: 'TPM_RC_NO_RESULT',
  341: 'TPM_RC_SENSITIVE',
}

/** Errors of one handle, session or parameter. @see TPM 2.0 Library, Part 2, clause 6.6.3 (RC_FMT1) */
const FORMAT_ONE: Readonly<Record<number, string>> = {
  129: 'TPM_RC_ASYMMETRIC',
  130: 'TPM_RC_ATTRIBUTES',
  131: 'TPM_RC_HASH',
  132: 'TPM_RC_VALUE',
  133: 'TPM_RC_HIERARCHY',
  135: 'TPM_RC_KEY_SIZE',
  136: 'TPM_RC_MGF',
  137: 'TPM_RC_MODE',
  138: 'TPM_RC_TYPE',
  139: 'TPM_RC_HANDLE',
  140: 'TPM_RC_KDF',
  141: 'TPM_RC_RANGE',
  142: 'TPM_RC_AUTH_FAIL',
  143: 'TPM_RC_NONCE',
  144: 'TPM_RC_PP',
  146: 'TPM_RC_SCHEME',
  149: 'TPM_RC_SIZE',
  150: 'TPM_RC_SYMMETRIC',
  151: 'TPM_RC_TAG',
  152: 'TPM_RC_SELECTOR',
  154: 'TPM_RC_INSUFFICIENT',
  155: 'TPM_RC_SIGNATURE',
  156: 'TPM_RC_KEY',
  157: 'TPM_RC_POLICY_FAIL',
  159: 'TPM_RC_INTEGRITY',
  160: 'TPM_RC_TICKET',
  161: 'TPM_RC_RESERVED_BITS',
  162: 'TPM_RC_BAD_AUTH',
  163: 'TPM_RC_EXPIRED',
  164: 'TPM_RC_POLICY_CC',
  165: 'TPM_RC_BINDING',
  166: 'TPM_RC_CURVE',
  167: 'TPM_RC_ECC_POINT',
}

/** The command may work at another time. @see TPM 2.0 Library, Part 2, clause 6.6.3 (RC_WARN) */
const WARNINGS: Readonly<Record<number, string>> = {
  2305: 'TPM_RC_CONTEXT_GAP',
  2306: 'TPM_RC_OBJECT_MEMORY',
  2307: 'TPM_RC_SESSION_MEMORY',
  2308: 'TPM_RC_MEMORY',
  2309: 'TPM_RC_SESSION_HANDLES',
  2310: 'TPM_RC_OBJECT_HANDLES',
  2311: 'TPM_RC_LOCALITY',
  2312: 'TPM_RC_YIELDED',
  2313: 'TPM_RC_CANCELED',
  2314: 'TPM_RC_TESTING',
  2320: 'TPM_RC_REFERENCE_H0',
  2321: 'TPM_RC_REFERENCE_H1',
  2322: 'TPM_RC_REFERENCE_H2',
  2323: 'TPM_RC_REFERENCE_H3',
  2324: 'TPM_RC_REFERENCE_H4',
  2325: 'TPM_RC_REFERENCE_H5',
  2326: 'TPM_RC_REFERENCE_H6',
  2328: 'TPM_RC_REFERENCE_S0',
  2329: 'TPM_RC_REFERENCE_S1',
  2330: 'TPM_RC_REFERENCE_S2',
  2331: 'TPM_RC_REFERENCE_S3',
  2332: 'TPM_RC_REFERENCE_S4',
  2333: 'TPM_RC_REFERENCE_S5',
  2334: 'TPM_RC_REFERENCE_S6',
  2336: 'TPM_RC_NV_RATE',
  2337: 'TPM_RC_LOCKOUT',
  2338: 'TPM_RC_RETRY',
  2339: 'TPM_RC_NV_UNAVAILABLE',
  2431: 'TPM_RC_NOT_USED',
}

/** A response code of format zero, a warning or one that stands alone; a number means that the standard has no name. */
const PLAIN: Readonly<Record<number, string>> = {
  0: 'TPM_RC_SUCCESS',
  30: 'TPM_RC_BAD_TAG',
  ...FORMAT_ZERO,
  ...WARNINGS,
}

/** Bits of a response code. @see TPM 2.0 Library, Part 2, clause 6.6.2 */
const FORMAT_BIT = 0x080
const PARAMETER_BIT = 0x040
const SESSION_BIT = 0x800
const FORMAT_ONE_ERROR = 0x0bf
const TPM_LAYER = 0xfff

export interface ResponseCode {
  /** As the standard has it; absent where it has none: a code of a vendor, of a newer TPM or of another layer. */
  readonly name?: string
  /** What the TPM refused, counted from 1 in the order of the command. Absent where the TPM did not say. */
  readonly subject?: { readonly kind: 'handle' | 'session' | 'parameter'; readonly number: number }
}

/**
 * The name of a TPM_RC and the handle, session or parameter that it is about.
 *
 * @param rc as the TPM answered it; codes of the layers of a software stack, from 0x1000 on, have no name here
 * @see TPM 2.0 Library, Part 2, clause 6.6
 */
export function decodeResponseCode(rc: number): ResponseCode {
  if (rc > TPM_LAYER || (rc & FORMAT_BIT) === 0) return named(PLAIN[rc])
  const base = named(FORMAT_ONE[rc & FORMAT_ONE_ERROR])
  if ((rc & PARAMETER_BIT) !== 0) return about(base, 'parameter', rc >>> 8)
  const number = (rc >>> 8) & 0x7
  return about(base, (rc & SESSION_BIT) !== 0 ? 'session' : 'handle', number)
}

/** `TPM_RC_VALUE (parameter 2), 0x2c4`: for messages. */
export function describeResponseCode(rc: number): string {
  const { name, subject } = decodeResponseCode(rc)
  const where = subject ? ` (${subject.kind} ${subject.number})` : ''
  return `${name ?? 'a response code without a name'}${where}, 0x${rc.toString(16)}`
}

function named(name: string | undefined): ResponseCode {
  return name === undefined ? {} : { name }
}

function about(
  base: ResponseCode,
  kind: 'handle' | 'session' | 'parameter',
  number: number,
): ResponseCode {
  return number === 0 ? base : { ...base, subject: { kind, number } }
}
