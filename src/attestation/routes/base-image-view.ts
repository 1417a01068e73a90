import type { BaseImageView } from '../../api/base-images.js'
import type { Bank } from '../../api/common.js'
import { isoTime } from '../../core/clock.js'
import type { StoredBaseImage } from '../ports.js'

/** A base image as the API shows it, without its event log. */
export function baseImageView(image: StoredBaseImage): BaseImageView {
  return {
    name: image.name,
    cluster: image.cluster,
    source: image.source,
    addedAt: isoTime(image.addedAtMs),
    ...(image.notBeforeMs === undefined ? {} : { notBefore: isoTime(image.notBeforeMs) }),
    ...(image.notAfterMs === undefined ? {} : { notAfter: isoTime(image.notAfterMs) }),
    bank: image.bank as Bank,
    pcrs: [...image.pcrs].map(([pcr, digests]) => ({ pcr, digests: [...digests] })),
    ...(image.boot ? { boot: image.boot } : {}),
  }
}
