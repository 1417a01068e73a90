import { expect, test } from 'vitest'
import type { Client } from '../../../src/api/client.js'
import {
  deleteAccount,
  getMe,
  grantPermission,
  listOperators,
  listPermissions,
  revokeOperator,
  revokePermission,
  setAccountState,
  setRole,
} from '../../../src/api/people.js'
import { openTestSite } from '../../helpers/site.js'
import { newAccount, newRole, newUser, SITE } from './support.js'

const LAST = { code: 'LAST_ADMINISTRATOR' }
const BOTH = [{ role: 'administrator' }, { role: 'trust-authority-administrator' }]

test('a site always has somebody who can administer it, and who can administer its trust authority', async () => {
  await using site = await openTestSite({ services: ['control-plane'] })
  const params = { name: 'admin' }
  await using robot = await newAccount(site, 'robot', ...BOTH)
  // a program is nobody, nor is a user who has a part of it alone
  await using root = await newUser(site, 'root', { role: 'administrator' })
  await expect(site.admin.call(revokeOperator, { params })).rejects.toMatchObject(LAST)
  const own = await newRole(site, 'trusting', [
    ...(['TrustedAdmin.ManageTrustedHosts', 'TrustedAdmin.ManageAttestingSSO'] as const),
    ...(['TrustedAdmin.ReadTrustedHosts', 'TrustedAdmin.ReadAttestingSSO'] as const),
    ...(['TrustedAdmin.ReadKMSTrust', 'TrustedAdmin.ManageKMSTrust'] as const),
  ])
  await using trusting = await newUser(site, 'trusting', { role: own })

  // the first administrator hands over, and the token of before is worth nothing
  await robot.call(revokeOperator, { params })
  await expect(site.admin.call(getMe, {})).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
  expect((await root.call(listOperators, {})).operators).toMatchObject([{ state: 'ended' }])
  await expect(robot.call(revokeOperator, { params })).rejects.toMatchObject({ code: 'NOT_FOUND' })

  const state = { state: 'disabled' as const }
  const account = (name: string) => ({ kind: 'user' as const, name })
  for (const name of ['root', 'trusting']) {
    const attempts = [
      robot.call(setAccountState, { params: account(name), body: state }),
      robot.call(deleteAccount, { params: account(name) }),
      revokeOf(robot, name),
    ]
    for (const attempt of await Promise.allSettled(attempts)) {
      expect(attempt).toMatchObject({ status: 'rejected', reason: LAST })
    }
  }
  const less = { privileges: ['TrustedAdmin.ReadTrustedHosts' as const] }
  await expect(robot.call(setRole, { params: { role: own }, body: less })).rejects.toMatchObject(
    LAST,
  )
  expect(await trusting.call(getMe, {})).toMatchObject({ permissions: [{ role: own }] })

  // once there is another, the first may go
  const principal = { kind: 'user' as const, name: 'trusting' }
  const body = { principal, role: 'administrator', scope: SITE }
  await robot.call(grantPermission, { body })
  await robot.call(deleteAccount, { params: account('root') })
  await expect(root.call(getMe, {})).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
  await expect(revokeOf(robot, 'trusting')).rejects.toMatchObject(LAST)
})

async function revokeOf(client: Client, name: string): Promise<unknown> {
  const { permissions } = await client.call(listPermissions, {})
  const permission = permissions.find(({ principal }) => principal.name === name)
  const { permissionId = '' } = permission ?? {}
  return client.call(revokePermission, { params: { permissionId } })
}
