// SPDX-License-Identifier: MIT
// Starts the window: opens the transport, lets the stores follow the manager, draws the page.
import { mount } from 'svelte';
import './styles/tokens.css';
import './styles/base.css';
import './styles/controls.css';
import App from './App.svelte';
import { startStores } from './state/start.ts';
import { openLink } from './transport/open-link.ts';

startStores(openLink());
mount(App, { target: document.getElementById('app')! });
