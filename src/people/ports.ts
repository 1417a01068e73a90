import type { AccountKind, Principal, Scope } from '../api/people.js'
import type { Privilege } from '../api/privileges.js'
import type { Caller, OperatorCaller } from '../http/index.js'
import type { AuditEntry } from '../store/index.js'
import type { Permission, Place, Rights } from './domain/rights.js'

/** Who does something, and when. */
export interface Act {
  readonly caller: Caller
  /** For audit records: `user:anna`. */
  readonly actor: string
  readonly nowMs: number
}

/** The database, one transaction at a time. */
export interface PeopleStore {
  transaction<R>(work: (tx: PeopleTransaction) => Promise<R>): Promise<R>
}

export interface PeopleTransaction {
  /** What the caller may do, as of this transaction. */
  rightsOf(act: Act): Promise<Rights>
  /** What an account is granted, whether it is active or not. */
  permissionsOfAccount(account: StoredAccount): Promise<readonly Permission[]>
  /** Privileges that active users and operators have on the whole site. */
  heldOnSite(nowMs: number): Promise<ReadonlySet<Privilege>>
  placeOfVm(vmId: string): Promise<Place>

  findAccount(kind: AccountKind, name: string): Promise<StoredAccount | undefined>
  listAccounts(): Promise<readonly StoredAccount[]>
  /** @throws PlatformError `CONFLICT` where the name is taken */
  insertAccount(account: StoredAccount): Promise<void>
  saveAccount(account: StoredAccount): Promise<void>
  /** With its tokens and permissions. */
  removeAccount(accountId: string): Promise<void>

  insertToken(token: StoredToken & { readonly tokenHash: string }): Promise<void>
  /** Those that have not ended. */
  listTokens(accountId: string, nowMs: number): Promise<readonly StoredToken[]>
  /** @returns whether there was one */
  removeToken(accountId: string, tokenId: string): Promise<boolean>
  removeTokens(accountId: string): Promise<void>
  removeEndedTokens(nowMs: number): Promise<void>

  /** Own roles of the site; not the built-in ones. */
  listRoles(): Promise<readonly StoredRole[]>
  findRole(name: string): Promise<StoredRole | undefined>
  saveRole(role: StoredRole, nowMs: number): Promise<void>
  removeRole(name: string): Promise<void>

  listPermissions(): Promise<readonly StoredPermission[]>
  /** @throws PlatformError `CONFLICT` where it was granted already */
  insertPermission(permission: NewPermission): Promise<void>
  removePermission(permissionId: string): Promise<void>

  listOperators(nowMs: number): Promise<readonly StoredOperatorState[]>
  /** Ends the token of an operator. */
  endOperator(operatorId: string, nowMs: number): Promise<void>

  findAttempts(nameHash: string): Promise<Attempts | undefined>
  saveAttempts(nameHash: string, attempts: Attempts): Promise<void>
  removeAttempts(nameHash: string): Promise<void>
  removeOldAttempts(nowMs: number): Promise<void>

  audit(entry: Omit<AuditEntry, 'chain'>): Promise<void>
}

export interface StoredAccount {
  readonly accountId: string
  readonly kind: AccountKind
  readonly name: string
  /** Absent for service accounts. */
  readonly passwordHash?: string
  readonly state: 'active' | 'disabled'
  readonly createdAtMs: number
  readonly createdBy: string
}

export interface StoredToken {
  readonly tokenId: string
  readonly accountId: string
  readonly note: string
  readonly createdAtMs: number
  readonly expiresAtMs: number
}

export interface StoredRole {
  readonly name: string
  readonly privileges: readonly Privilege[]
}

export interface NewPermission {
  readonly permissionId: string
  readonly principalKind: Principal['kind']
  /** Id of an account, name of a group. */
  readonly principal: string
  /** Of groups, who vouches for their members; else empty. */
  readonly issuer: string
  readonly role: string
  readonly scope: Scope
  readonly grantedAtMs: number
  readonly grantedBy: string
}

export interface StoredPermission extends Omit<NewPermission, 'principal'> {
  readonly principal: Principal
}

export interface StoredOperatorState {
  readonly operator: OperatorCaller
  readonly createdAtMs: number
  readonly active: boolean
}

/** Wrong passwords for one name, whether there is such a user or not. */
export interface Attempts {
  readonly wrong: number
  readonly notBeforeMs: number
  readonly forgottenAtMs: number
}

/** Passwords as they are kept. */
export interface PasswordHasher {
  /** Argon2id in its text form, with a new salt. */
  hash(password: string): Promise<string>
  /** In the same time whether it is the password or not; against a hash of nobody where there is none. */
  verify(hash: string | undefined, password: string): Promise<boolean>
}
