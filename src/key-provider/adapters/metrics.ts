import { Counter, Histogram, type Registry } from '../../http/index.js'
import type { ReleaseMetrics } from '../domain/release.js'

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30]

/** Figures of requests for keys. No name of a provider, a key, a host or a VM is a label. */
export function releaseMetrics(registry: Registry): ReleaseMetrics {
  const registers = [registry]
  const requests = new Counter({
    name: 'key_provider_requests_total',
    help: 'Requests of hosts for keys, by operation and by code: ok, or why the whole was refused',
    labelNames: ['operation', 'code'],
    registers,
  })
  const items = new Counter({
    name: 'key_provider_items_total',
    help: 'Items of requests that were served, by operation and by code: ok, or why the item was refused',
    labelNames: ['operation', 'code'],
    registers,
  })
  const seconds = new Histogram({
    name: 'key_provider_operation_seconds',
    help: 'Time to serve a request for keys, with its audit record and its key server',
    labelNames: ['operation'],
    buckets: SECONDS,
    registers,
  })
  return {
    request(operation, code, tookMs) {
      requests.inc({ operation, code })
      seconds.observe({ operation }, tookMs / 1000)
    },
    item: (operation, code, count) => items.inc({ operation, code }, count),
  }
}
