import { quoted, TokenError } from './errors.js'

const MAX_URI_CHARACTERS = 2048

/** Scheme, host with port, and path; what follows is query or fragment. No user, no backslash, no percent escape. */
const HTTP_URI =
  /^(https?):\/\/([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::(\d{1,5}))?((?:\/[A-Za-z0-9._~!$&'()*+,;=:@-]*)*)(\?[^#]*)?(#.*)?$/i

/**
 * The one spelling of an HTTP URI, for comparison of `htu` with the URI of a request.
 *
 * Scheme and host become lower case, the default port goes, an empty path becomes `/`, query and fragment are left
 * out. A path with percent escapes, dot segments or empty segments is refused instead of normalised: a router may read
 * it otherwise than we do, and none of our paths needs them.
 *
 * @throws TokenError `DPOP_URI`
 * @see RFC 9449, section 4.3, item 9; RFC 3986, sections 6.2.2 and 6.2.3
 */
export function normalizeHttpUri(uri: string): string {
  const match = uri.length <= MAX_URI_CHARACTERS ? HTTP_URI.exec(uri) : null
  if (!match) throw new TokenError('DPOP_URI', `expected a plain HTTP URI, found ${quoted(uri)}`)
  const [, scheme = '', host = '', port, path = ''] = match
  if (/\/\.{1,2}(\/|$)|\/\//.test(path)) {
    throw new TokenError('DPOP_URI', `expected no dot or empty segment, found ${quoted(path)}`)
  }
  const defaultPort = scheme.toLowerCase() === 'https' ? '443' : '80'
  const isDefault = port === undefined || Number(port) === Number(defaultPort)
  const authority = host.toLowerCase() + (isDefault ? '' : `:${Number(port)}`)
  return `${scheme.toLowerCase()}://${authority}${path === '' ? '/' : path}`
}
