/**
 * Every error code of Sigillo: what it means, and the HTTP status that it is answered with.
 *
 * A code is never renamed. `docs/errors.md` is generated from this table.
 */
export const ERROR_CODES = {
  // decode: octets or text that cannot be read
  DECODE_TRUNCATED: { status: 400, title: 'the input ends before the structure does' },
  DECODE_TRAILING: { status: 400, title: 'octets follow the end of the structure' },
  DECODE_TOO_LARGE: { status: 413, title: 'a size or count is above its limit' },
  DECODE_VALUE: { status: 400, title: 'a value is not one that the standard allows here' },
  DECODE_ENCODING: { status: 400, title: 'text is not in the expected encoding' },

  // config and start-up
  CONFIG_INVALID: { status: 500, title: 'the configuration does not fit its schema' },
  CONFIG_UNREADABLE: { status: 500, title: 'a configuration file cannot be read' },
  FILE_MODE: { status: 500, title: 'a file with a secret can be read by others' },

  // requests
  REQUEST_INVALID: { status: 400, title: 'the request does not fit its schema' },
  NOT_FOUND: { status: 404, title: 'no such object' },
  CONFLICT: { status: 409, title: 'the object exists already or is in another state' },
  UNAUTHENTICATED: { status: 401, title: 'the caller is not known' },
  FORBIDDEN: { status: 403, title: 'the caller may not do this' },
  RATE_LIMITED: { status: 429, title: 'too many requests' },
  INTERNAL: { status: 500, title: 'an error of our own' },
  UNAVAILABLE: { status: 503, title: 'the service cannot answer now' },
  SEALED: { status: 503, title: 'the service is sealed' },
  AUTHORITY_UNREACHABLE: { status: 503, title: 'the authority does not answer' },
} as const satisfies Record<string, { readonly status: number; readonly title: string }>

export type ErrorCode = keyof typeof ERROR_CODES
