import { type Static, Type } from 'typebox'
import { Bank, Empty, Exactly, HexDigest, Name, Next, PageQuery, Sentence, Time } from './common.js'
import { onSite } from './needs.js'
import { operation } from './operation.js'

const BASE = '/attestation/v1'

/** What the measurements say was booted. Text comes from the host's log: covered by digests, chosen by the host. */
export const BootView = Exactly({
  secureBoot: Type.Union([Type.Literal('on'), Type.Literal('off'), Type.Literal('unknown')]),
  bootApplications: Type.Array(Exactly({ name: Type.String(), digest: HexDigest })),
  firmwareVersion: Type.Optional(Type.String()),
  kernel: Type.Optional(Type.String()),
  commandLine: Type.Optional(Type.String()),
})
export type BootView = Static<typeof BootView>

/** Accepted digests of each PCR. */
export const ReferencePcrs = Type.Array(
  Exactly({
    pcr: Type.Integer({ minimum: 0, maximum: 23 }),
    digests: Type.Array(HexDigest, { minItems: 1, maxItems: 64 }),
  }),
  { minItems: 1, maxItems: 24 },
)

/** Where reference values came from. */
export const BaseImageSource = Type.Union([
  Exactly({ kind: Type.Literal('captured'), hostId: Name }),
  Exactly({
    kind: Type.Literal('json'),
    digest: HexDigest,
    description: Type.Optional(Sentence),
  }),
  Exactly({
    kind: Type.Literal('corim'),
    digest: HexDigest,
    id: Type.String({ maxLength: 200 }),
    signer: Type.Optional(Sentence),
  }),
])

export const BaseImageView = Exactly({
  name: Name,
  cluster: Name,
  source: BaseImageSource,
  addedAt: Time,
  notBefore: Type.Optional(Time),
  notAfter: Type.Optional(Time),
  bank: Bank,
  pcrs: ReferencePcrs,
  boot: Type.Optional(BootView),
})
export type BaseImageView = Static<typeof BaseImageView>

export const captureBaseImage = operation({
  id: 'captureBaseImage',
  needs: onSite('TrustedAdmin.ManageTrustedHosts'),
  summary: 'Make a base image of what a host last proved that it booted',
  method: 'POST',
  path: `${BASE}/base-images`,
  status: 201,
  body: Exactly({ name: Name, hostId: Name, notAfter: Type.Optional(Time) }),
  answer: BaseImageView,
  errors: ['NOT_FOUND'],
})

export const listBaseImages = operation({
  id: 'listBaseImages',
  needs: onSite('TrustedAdmin.ReadTrustedHosts'),
  summary: 'Base images: what good hosts measure',
  method: 'GET',
  path: `${BASE}/base-images`,
  status: 200,
  query: Exactly({ cluster: Type.Optional(Name), ...PageQuery }),
  answer: Exactly({ baseImages: Type.Array(BaseImageView), next: Next }),
})

const BaseImageParams = Exactly({ cluster: Name, name: Name })

export const removeBaseImage = operation({
  id: 'removeBaseImage',
  needs: onSite('TrustedAdmin.ManageTrustedHosts'),
  summary: 'Accept a base image no longer; tokens issued under it end at once',
  method: 'DELETE',
  path: `${BASE}/base-images/:cluster/:name`,
  status: 200,
  params: BaseImageParams,
  answer: Empty,
})
