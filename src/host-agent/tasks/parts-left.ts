import type { VmParts } from '../../api/host-agent.js'
import type { VmFacts } from '../vm/index.js'

/**
 * The parts that an operation which goes part by part did not get to.
 *
 * @param rules.isConcerned whether an operation on all of a VM is about this part
 * @param rules.isDone whether the part is as it is to be; `earlier` is the VM as it was when the operation was begun
 * @returns the request for them; undefined where none is left. A VM that was not there then, or is not now, gets the
 *   request as it is.
 */
export function partsLeft<R extends VmParts>(
  request: R,
  before: VmFacts | undefined,
  now: VmFacts | undefined,
  rules: {
    readonly isConcerned: (facts: VmFacts, part: string) => boolean
    readonly isDone: (facts: VmFacts, part: string, earlier: VmFacts) => boolean
  },
): R | undefined {
  if (!before || !now) return request
  const { home, vtpm, disks = [] } = request
  const isAll = !home && !vtpm && disks.length === 0
  const wanted = isAll
    ? ['home', 'vtpm', ...before.disks.map(({ name }) => `disk-${name}`)].filter((part) =>
        rules.isConcerned(before, part),
      )
    : [...(home ? ['home'] : []), ...(vtpm ? ['vtpm'] : []), ...disks.map((name) => `disk-${name}`)]
  // What could not be done then is refused again, with its reason
  const left = wanted.filter(
    (part) => !rules.isConcerned(before, part) || !rules.isDone(now, part, before),
  )
  if (left.length === wanted.length) return request
  if (left.length === 0) return undefined
  return {
    ...request,
    home: left.includes('home'),
    vtpm: left.includes('vtpm'),
    disks: left.flatMap((part) => (part.startsWith('disk-') ? [part.slice(5)] : [])),
  }
}
