import { BUILT_IN_ROLES } from '../../api/built-in-roles.js'
import type { Privilege } from '../../api/privileges.js'
import { PlatformError } from '../../core/errors.js'
import type { Act, PeopleStore, PeopleTransaction, StoredRole } from '../ports.js'
import { keepingAdministrators } from './holds-all.js'
import { SITE } from './rights.js'

/** Roles that are made of privileges: those that every site has, and its own. */
export function createRoles(store: PeopleStore) {
  return {
    list: () =>
      store.transaction(async (tx) => [
        ...Object.entries(BUILT_IN_ROLES).map(([name, { privileges }]) => ({
          ...{ name, privileges, builtIn: true },
        })),
        ...(await tx.listRoles()).map((role) => ({ ...role, builtIn: false })),
      ]),

    create: (act: Act, role: StoredRole) =>
      store.transaction(async (tx) => {
        if (await findRole(tx, role.name)) {
          throw new PlatformError('CONFLICT', `expected a new name, found role ${role.name}`)
        }
        ;(await tx.rightsOf(act)).require(role.privileges, SITE)
        await tx.saveRole(role, act.nowMs)
        await record(tx, act, 'role.create', role.name, { privileges: [...role.privileges] })
        return { ...role, builtIn: false }
      }),

    /** Changes a role for everybody who has it: who does so has what it was and what it becomes, on the whole site. */
    set: (act: Act, role: StoredRole) =>
      store.transaction(async (tx) => {
        const before = await ownRole(tx, role.name)
        const rights = await tx.rightsOf(act)
        rights.require([...before.privileges, ...role.privileges], SITE)
        await keepingAdministrators(tx, act.nowMs, () => tx.saveRole(role, act.nowMs))
        await record(tx, act, 'role.set', role.name, {
          before: [...before.privileges],
          privileges: [...role.privileges],
        })
        return { ...role, builtIn: false }
      }),

    remove: (act: Act, name: string): Promise<void> =>
      store.transaction(async (tx) => {
        const { privileges } = await ownRole(tx, name)
        ;(await tx.rightsOf(act)).require(privileges, SITE)
        if ((await tx.listPermissions()).some(({ role }) => role === name)) {
          throw new PlatformError('CONFLICT', `expected that nobody has role ${name}`)
        }
        await tx.removeRole(name)
        await record(tx, act, 'role.delete', name, { privileges: [...privileges] })
      }),
  }
}

export type Roles = ReturnType<typeof createRoles>

/** The privileges of a role, built in or own; nothing where there is none. */
export async function findRole(
  tx: PeopleTransaction,
  name: string,
): Promise<readonly Privilege[] | undefined> {
  return builtInRole(name) ?? (await tx.findRole(name))?.privileges
}

export function builtInRole(name: string): readonly Privilege[] | undefined {
  return Object.hasOwn(BUILT_IN_ROLES, name)
    ? BUILT_IN_ROLES[name as keyof typeof BUILT_IN_ROLES].privileges
    : undefined
}

async function ownRole(tx: PeopleTransaction, name: string): Promise<StoredRole> {
  if (builtInRole(name)) throw new PlatformError('CONFLICT', `role ${name} is built in`)
  const role = await tx.findRole(name)
  if (!role) throw new PlatformError('NOT_FOUND', `no role ${name}`)
  return role
}

async function record(
  tx: PeopleTransaction,
  act: Act,
  action: string,
  name: string,
  detail: Readonly<Record<string, string[]>>,
): Promise<void> {
  const subject = `role:${name}`
  await tx.audit({ atMs: act.nowMs, actor: act.actor, action, subject, outcome: 'done', detail })
}
