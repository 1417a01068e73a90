/** A person, or a program in the name of one, who is known by a token. */
export type Caller = OperatorCaller | AccountCaller | OutsideCaller

/** Whose token was made with the site, or on its machine: first administrators, and auditors of single services. */
export interface OperatorCaller {
  readonly kind: 'operator'
  readonly operatorId: string
  readonly name: string
  readonly role: 'administrator' | 'auditor'
  readonly services: readonly string[]
}

/** A user who logged in, or a service account. */
export interface AccountCaller {
  readonly kind: 'user' | 'service-account'
  readonly accountId: string
  readonly name: string
  readonly tokenId: string
}

/** A person whom an outside provider (OpenID Connect) vouches for. */
export interface OutsideCaller {
  readonly kind: 'oidc'
  readonly issuer: string
  readonly subject: string
  readonly name: string
  readonly groups: readonly string[]
  readonly expiresAtMs: number
}

/**
 * How audit records name a caller, and who asked for a task is known: `operator:anna`, `user:anna`, `service-account:ci`; of an
 * outside person `oidc:4f1c (anna)`, as two of them may have one name. The provider's subject has no blank here, so that no
 * name can be chosen that makes one look like another.
 */
export function actorOf(caller: Caller): string {
  const { kind, name } = caller
  return kind === 'oidc'
    ? `oidc:${encodeURIComponent(caller.subject)} (${name})`
    : `${kind}:${name}`
}

/** How lists and events name a caller: operators by their name alone, as they always were. */
export function displayNameOf(caller: Caller): string {
  return caller.kind === 'operator' ? caller.name : actorOf(caller)
}

const checked = new WeakSet<Caller>()

/** Notes that what a caller may do was asked for while a request is handled. */
export function noteCheck(caller: Caller): void {
  checked.add(caller)
}

/** Whether what the caller of a request may do was asked for since it was let through. */
export function wasChecked(caller: Caller): boolean {
  return checked.has(caller)
}
