"""The store of appointments: what a patient may read, kept per person, in the newest version and no older one."""
