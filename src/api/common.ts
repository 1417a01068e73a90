import { type Static, type TProperties, Type } from 'typebox'
import { NAME_PATTERN } from '../core/names.js'

/** An object that has these members and no others. */
export function Exactly<T extends TProperties>(properties: T, description?: string) {
  return Type.Object(properties, {
    additionalProperties: false,
    ...(description === undefined ? {} : { description }),
  })
}

export const Name = Type.String({
  pattern: NAME_PATTERN,
  maxLength: 63,
  description: 'lower-case name: letters, digits, dot, hyphen and underscore',
})

export const Uuid = Type.String({
  pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$',
  description: 'UUID in lower case',
})

/** Octets as unpadded base64url text. */
export function Octets(maxOctets: number, description: string) {
  return Type.String({
    pattern: '^[A-Za-z0-9_-]*$',
    maxLength: Math.ceil((maxOctets * 4) / 3),
    description: `${description}; base64url, at most ${maxOctets} octets`,
  })
}

export const Time = Type.String({
  pattern: '^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}\\.\\d{3}Z$',
  description: 'UTC time, RFC 3339 with milliseconds',
})

export const HexDigest = Type.String({
  pattern: '^[0-9a-f]{40,128}$',
  description: 'digest in hexadecimal',
})

export const Sentence = Type.String({ maxLength: 2000 })

export const Bank = Type.Union([
  Type.Literal('sha256'),
  Type.Literal('sha384'),
  Type.Literal('sha512'),
])
export type Bank = Static<typeof Bank>

export const Pcr = Type.Integer({ minimum: 0, maximum: 23 })

/** Query members of every list: pages follow one another by `next`. */
export const PageQuery = {
  after: Type.Optional(
    Type.String({
      maxLength: 256,
      description: '`next` of the page before; left out for the first',
    }),
  ),
  limit: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 1000, description: 'items of a page at most; else 100' }),
  ),
}

/** The same for lists whose items have numbers. */
export const NumberedPageQuery = {
  ...PageQuery,
  after: Type.Optional(
    Type.String({
      pattern: '^[0-9]{1,15}$',
      description: '`next` of the page before, or the number of an item; left out for the first',
    }),
  ),
}

/** Member of the answer of every list. */
export const Next = Type.Optional(
  Type.String({ description: 'there is another page: give it as `after`' }),
)

/** PCR indexes, ascending, each once. */
export const PcrList = Type.Array(Pcr, { maxItems: 24, uniqueItems: true })

/** RFC 9457 problem document, as every error is answered. */
export const Problem = Exactly({
  type: Type.String(),
  title: Type.String(),
  status: Type.Integer(),
  code: Type.String(),
  requestId: Type.String(),
  detail: Type.Optional(Type.String()),
})
export type Problem = Static<typeof Problem>

/** What one check of a verifier found. */
export const FindingView = Exactly({
  check: Type.String(),
  ok: Type.Boolean(),
  code: Type.Optional(Type.String()),
  expected: Type.Optional(Type.String()),
  found: Type.Optional(Type.String()),
  pcr: Type.Optional(Type.Integer()),
  event: Type.Optional(Type.Integer()),
})
export type FindingView = Static<typeof FindingView>

export const AuditRecordView = Exactly({
  seq: Type.Integer(),
  at: Time,
  actor: Type.String(),
  action: Type.String(),
  subject: Type.String(),
  outcome: Type.Union([Type.Literal('allowed'), Type.Literal('refused'), Type.Literal('done')]),
  detail: Type.Record(Type.String(), Type.Unknown()),
  hash: Type.String(),
})

export const AuditQuery = Exactly({
  ...NumberedPageQuery,
  subject: Type.Optional(Type.String({ maxLength: 200 })),
})

export const AuditPage = Exactly({ records: Type.Array(AuditRecordView), next: Next })

export const AuditVerdict = Exactly({
  records: Type.Integer(),
  head: Type.String(),
  intact: Type.Boolean(),
  findings: Type.Array(FindingView),
})

export const Empty = Exactly({})
