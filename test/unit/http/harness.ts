import type { Clock } from '../../../src/core/clock.js'
import {
  type AppOptions,
  callerAccess,
  createApp,
  type OperatorCaller,
} from '../../../src/http/index.js'
import { memoryLogger } from '../../helpers/memory-logger.js'

export const ADMIN = `sgl_op_${'a'.repeat(43)}`
export const AUDITOR = `sgl_op_${'b'.repeat(43)}`

const CALLERS: Readonly<Record<string, OperatorCaller>> = {
  [ADMIN]: operator('anna', 'administrator'),
  [AUDITOR]: operator('ugo', 'auditor'),
}

function operator(name: string, role: OperatorCaller['role']): OperatorCaller {
  return { kind: 'operator', operatorId: name, name, role, services: ['test'] }
}

/** The auditor has one privilege, the administrator all of them. */
export const callers = callerAccess({
  find: async (token, service) => (service === 'test' ? CALLERS[token] : undefined),
  missing: async (caller, { privileges }) =>
    privileges.find(
      (one) =>
        !(caller.kind === 'operator' && caller.role === 'administrator') && one !== 'System.Read',
    ),
})

export function testApp(changes: Partial<AppOptions> = {}) {
  return createApp({
    logger: memoryLogger().logger,
    name: 'test',
    bodyLimitOctets: 2 * 1024 * 1024,
    callers,
    ...changes,
  })
}

export function fixedClock(nowSeconds: number): Clock {
  return { nowMs: () => nowSeconds * 1000, monotonicMs: () => 0 }
}
