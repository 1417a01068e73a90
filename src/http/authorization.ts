import type { FastifyRequest } from 'fastify'
import { PlatformError } from '../core/errors.js'

/**
 * The credentials of the one `Authorization` header of a request, where its scheme is this one.
 *
 * A header given twice is refused: Node keeps the first, a proxy may have checked the second.
 *
 * @throws PlatformError `UNAUTHENTICATED`
 * @see RFC 9110, section 11.6.2
 */
export function credentialsOf(request: FastifyRequest, scheme: 'Bearer' | 'DPoP'): string {
  const header = singleHeader(request, 'authorization')
  const match = /^([A-Za-z]+) ([A-Za-z0-9._~+/=-]+)$/.exec(header)
  const [, found = '', credentials = ''] = match ?? []
  if (found.toLowerCase() !== scheme.toLowerCase()) {
    throw new PlatformError('UNAUTHENTICATED', `expected credentials of scheme ${scheme}`)
  }
  return credentials
}

/** The value of a header that must be there exactly once. */
export function singleHeader(request: FastifyRequest, name: string): string {
  const { rawHeaders } = request.raw
  const values = rawHeaders.filter(
    (_, index) => index % 2 === 1 && rawHeaders[index - 1]?.toLowerCase() === name,
  )
  const [value] = values
  if (value === undefined || values.length !== 1) {
    throw new PlatformError(
      'UNAUTHENTICATED',
      `expected one ${name} header, found ${values.length}`,
    )
  }
  return value
}
